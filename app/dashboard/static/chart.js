// Charts by Apache ECharts, whose file is loaded when the first chart is drawn. Colours are those of the page's theme.

import { fill, settled } from "./dom.js";

let library;
const load = () => (library ??= import("./echarts.esm.min.js"));

/** The colour that a design token has now. */
export function colour(token) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${token})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** Draws what `options()` returns into `place`, again at each `redraw()`, change of the theme and of the size. `label`: what is read out to
 *  those who don't see it. `onClick` gets ECharts' event, `onColumn` the number of the column that was clicked beside what is drawn. Tooltips are drawn, not written as markup: names are nobody's HTML. */
export async function chart(place, options, { label, onClick = null, onColumn = null } = {}) {
  const echarts = await load();
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", label);
  fill(place);
  const drawn = echarts.init(place, null, { renderer: "canvas" });
  const redraw = () => drawn.setOption({ ...common(), ...options() }, { notMerge: true });
  if (onClick) drawn.on("click", onClick);
  if (onColumn)
    drawn
      .getZr()
      .on(
        "click",
        ({ target, offsetX, offsetY }) =>
          !target && drawn.containPixel("grid", [offsetX, offsetY]) && onColumn(drawn.convertFromPixel("grid", [offsetX, offsetY])[0]),
      );
  new ResizeObserver(settled(() => drawn.resize(), 50)).observe(place);
  addEventListener("themechange", redraw);
  redraw();
  return { redraw, drawn };
}

function common() {
  return {
    animation: false,
    aria: { enabled: false },
    color: series(),
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: colour("text") },
  };
}

export const series = () => [1, 2, 3, 4, 5, 6, 7, 8].map((number) => colour(`series-${number}`));

export function tooltip(format, more = {}) {
  return {
    renderMode: "richText",
    confine: true,
    backgroundColor: colour("raised"),
    borderColor: colour("edge"),
    textStyle: { color: colour("text"), fontSize: 12, lineHeight: 17 },
    formatter: format,
    ...more,
  };
}

export function axis(more = {}) {
  return {
    axisLine: { lineStyle: { color: colour("line") } },
    axisTick: { show: false },
    axisLabel: { color: colour("muted"), hideOverlap: true },
    splitLine: { lineStyle: { color: colour("line") } },
    ...more,
  };
}

export function legend(more = {}) {
  return {
    type: "scroll",
    top: 0,
    left: 0,
    itemWidth: 12,
    itemHeight: 8,
    icon: "roundRect",
    textStyle: { color: colour("muted") },
    pageTextStyle: { color: colour("muted") },
    pageIconColor: colour("accent"),
    pageIconInactiveColor: colour("line"),
    formatter: (name) => cut(name, 28),
    ...more,
  };
}

export const cut = (text, longest) => (text.length > longest ? `${text.slice(0, longest - 1)}…` : text);
