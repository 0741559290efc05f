// The overview's charts: spend over time, the week by hour, and the last hour by minute.

import { axis, chart, colour, cut, legend, series as colours, tooltip } from "../chart.js";
import { clock, day, moment, money, month, number, shortMoney } from "../format.js";
import { startsOf, wall } from "../period.js";
import { t } from "../words.js";

/** Groups that have a colour of their own; the others are together. */
export const SHOWN = 7;
const MINUTE = 60e3;
const HOUR = 60 * MINUTE;

/** Draws into the page's place of that name: with new options where it has a chart already. */
async function draw(page, name, options, label, { onClick = null, onColumn = null } = {}) {
  const kept = (page.charts[name] ??= {});
  kept.options = options;
  kept.onClick = onClick;
  kept.onColumn = onColumn;
  kept.drawing ??= chart(page.places[name], () => kept.options(), {
    label,
    onClick: (event) => kept.onClick?.(event),
    onColumn: (at) => kept.onColumn?.(at),
  });
  (await kept.drawing).redraw();
}

const TITLE = { minute: clock, hour: (at, zone) => moment(at, zone, { seconds: false }), day, month };
const LABEL = {
  minute: clock,
  hour: (at, zone) => (wall(new Date(at), zone).endsWith("T00:00") ? day(at, zone) : clock(at, zone)),
  day,
  month,
};

/** `whole`, and `values` of each of `groups`: bills by the start of their period, in milliseconds. `open(group, from, to)`. */
export async function drawSpend(page, { starts, interval, zone, whole, groups, open }) {
  const rest = starts.map((at) => (whole.get(at) ?? 0) - groups.reduce((sum, { values }) => sum + (values.get(at) ?? 0), 0));
  const hasRest = rest.some((value) => value > 1e-9);
  const bar = (name, data, more = {}) => ({ name, type: "bar", stack: "spend", barMaxWidth: 40, data, cursor: "pointer", ...more });
  const options = () => ({
    grid: { left: 8, right: 16, top: 34, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "all" },
    legend: legend({ data: [...groups.map(({ name }) => name), ...(hasRest ? [t("overview.others")] : [])] }),
    tooltip: tooltip((points) => told(points, starts, interval, zone), { trigger: "axis", axisPointer: { type: "shadow" } }),
    xAxis: axis({
      type: "category",
      data: starts,
      axisLabel: {
        color: colour("muted"),
        hideOverlap: true,
        alignMaxLabel: "right",
        formatter: (at) => LABEL[interval](Number(at), zone),
      },
    }),
    yAxis: axis({ type: "value", axisLabel: { color: colour("muted"), formatter: shortMoney } }),
    series: [
      ...groups.map(({ name, values }, at) =>
        bar(
          name,
          starts.map((start) => values.get(start) ?? 0),
          { itemStyle: { color: colours()[at] } },
        ),
      ),
      ...(hasRest
        ? [
            bar(
              t("overview.others"),
              rest.map((value) => Math.max(0, value)),
              { itemStyle: { color: colour("series-rest") } },
            ),
          ]
        : []),
    ],
  });
  const openAt = (group, at) => open(group, new Date(starts[at]), starts[at + 1] ? new Date(starts[at + 1]) : null);
  await draw(page, "spend", options, t("overview.spend_over_time"), {
    onClick: ({ seriesIndex, dataIndex }) => openAt(groups[seriesIndex] ?? null, dataIndex),
    onColumn: (at) => openAt(null, at),
  });
}

function told(points, starts, interval, zone) {
  const shown = points.filter(({ value }) => value > 0).sort((one, other) => other.value - one.value);
  const sum = shown.reduce((total, { value }) => total + value, 0);
  return [
    `${TITLE[interval](starts[points[0].dataIndex], zone)}   ${money(sum)}`,
    ...shown.map(({ seriesName, value }) => `${cut(seriesName, 36)}   ${money(value)}`),
  ].join("\n");
}

/** A row a day, a cell an hour. */
export async function drawHeat(page, { week, zone, data, open }) {
  const found = new Map(data.map((one) => [Date.parse(one.start), one]));
  const hours = startsOf(week.from, week.to, "hour", zone);
  const days = [...new Set(hours.map((at) => wall(new Date(at), zone).slice(0, 10)))];
  const cells = hours.map((at) => {
    const [date, time] = wall(new Date(at), zone).split("T");
    const calls = found.get(at)?.calls ?? 0;
    return { value: [Number(time.slice(0, 2)), days.indexOf(date), Math.sqrt(calls)], calls, at }; // one loud hour leaves the others their colours
  });
  const options = () => ({
    grid: { left: 8, right: 16, top: 4, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "all" },
    tooltip: tooltip(
      ({ data: { at, calls } }) =>
        `${moment(at, zone, { seconds: false })}\n${t("overview.n_calls", { n: number(calls) })}   ${money(found.get(at)?.bill ?? "0")}`,
    ),
    xAxis: axis({ type: "category", data: Array.from({ length: 24 }, (_, hour) => hour), splitLine: { show: false } }),
    yAxis: axis({
      type: "category",
      inverse: true,
      data: days,
      splitLine: { show: false },
      axisLabel: { color: colour("muted"), formatter: (date) => day(`${date}T12:00:00Z`, "UTC") },
    }),
    visualMap: {
      show: false,
      min: 0,
      max: Math.max(1, ...cells.map(({ value }) => value[2])),
      dimension: 2,
      inRange: { color: [colour("heat-0"), colour("heat-1")] },
    },
    series: [
      {
        type: "heatmap",
        data: cells,
        itemStyle: { borderColor: colour("surface"), borderWidth: 2, borderRadius: 3 },
        emphasis: { itemStyle: { borderColor: colour("edge") } },
      },
    ],
  });
  await draw(page, "heat", options, t("overview.week"), { onClick: ({ data: { at } }) => open(new Date(at), new Date(at + HOUR)) });
}

export async function drawLive(page, { since, zone, data }) {
  const found = new Map(data.map((one) => [Date.parse(one.start), one]));
  const starts = startsOf(since, new Date(), "minute", zone);
  const of = (name) => starts.map((at) => found.get(at)?.[name] ?? 0);
  const failed = of("failures");
  const options = () => ({
    grid: { left: 8, right: 16, top: 28, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "all" },
    legend: legend(),
    tooltip: tooltip(
      (points) =>
        `${clock(starts[points[0].dataIndex], zone)}\n${points.map(({ seriesName, value }) => `${seriesName}   ${number(value)}`).join("\n")}`,
      { trigger: "axis", axisPointer: { type: "shadow" } },
    ),
    xAxis: axis({
      type: "category",
      data: starts,
      axisLabel: { color: colour("muted"), hideOverlap: true, alignMaxLabel: "right", formatter: (at) => clock(Number(at), zone) },
    }),
    yAxis: axis({ type: "value", minInterval: 1 }),
    series: [
      {
        name: t("status.success"),
        type: "bar",
        stack: "calls",
        data: of("calls").map((calls, at) => calls - failed[at]),
        itemStyle: { color: colour("series-2") },
      },
      { name: t("status.failed"), type: "bar", stack: "calls", data: failed, itemStyle: { color: colour("bad") } },
    ],
  });
  await draw(page, "live", options, t("overview.live"));
}
