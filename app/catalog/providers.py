"""Providers that are known by name: where they are, what they speak, and by what their models' names begin, so that several of them
can stand beside each other. Addresses are those of the providers' own documentation.

A start adds those whose `variable` is in its environment (`first_start.py`); operators fill forms with all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """`models`: what it serves where another upstream serves every model. `protocols` None: any. `probe`: a small model, for a test
    call. `variable`: in which its key is, as its own SDK reads it; `catalogue`: its name in the price catalogue."""

    name: str
    title: str
    base_url: str
    models: Sequence[str]
    protocols: Sequence[str] | None = None
    auth: str = "auto"
    is_local: bool = False
    probe: str | None = None
    variable: str | None = None
    catalogue: str | None = None


_OPENAI_MODELS = (
    "gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*", "text-embedding-*", "davinci-*", "babbage-*", "dall-e-*", "whisper-*", "tts-*",
)  # fmt: skip
_OPENROUTER_MODELS = (
    "openrouter/*", "openai/*", "anthropic/*", "google/*", "meta-llama/*", "mistralai/*", "deepseek/*", "qwen/*", "x-ai/*",
    "moonshotai/*", "z-ai/*", "minimax/*", "nvidia/*",
)  # fmt: skip
_SILICONFLOW_MODELS = ("deepseek-ai/*", "Qwen/*", "zai-org/*", "THUDM/*", "moonshotai/*", "BAAI/*", "Pro/*")
_KIMI_MODELS = ("kimi-*", "moonshot-*")
_OPENAI = ("openai",)
PROVIDERS = (
    Provider(
        name="openai",
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        models=_OPENAI_MODELS,
        protocols=_OPENAI,
        probe="gpt-6-luna",
        variable="OPENAI_API_KEY",
        catalogue="openai",
    ),
    Provider(name="anthropic", title="Anthropic", base_url="https://api.anthropic.com", models=("claude-*",), protocols=("anthropic",)),
    Provider(
        name="gemini",
        title="Gemini",
        base_url="https://generativelanguage.googleapis.com",
        models=("gemini-*",),
        protocols=("gemini",),
    ),
    Provider(
        name="deepseek",
        title="DeepSeek",
        base_url="https://api.deepseek.com",
        models=("deepseek-*",),
        probe="deepseek-v4-flash",
        variable="DEEPSEEK_API_KEY",
        catalogue="deepseek",
    ),
    Provider(
        name="qwen",
        title="Qwen",
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        models=("qwen*", "qwq-*", "qvq-*"),
        protocols=_OPENAI,
        probe="qwen-flash",
    ),
    Provider(
        name="mistral",
        title="Mistral",
        base_url="https://api.mistral.ai/v1",
        models=("mistral-*", "ministral-*", "magistral-*", "codestral-*", "pixtral-*"),
        variable="MISTRAL_API_KEY",
        catalogue="mistral",
    ),
    Provider(
        name="xai",
        title="xAI",
        base_url="https://api.x.ai/v1",
        models=("grok-*",),
        variable="XAI_API_KEY",
        catalogue="x-ai",
    ),
    Provider(
        name="moonshot",
        title="Moonshot",
        base_url="https://api.moonshot.ai/v1",
        models=_KIMI_MODELS,
        protocols=_OPENAI,
        variable="MOONSHOT_API_KEY",
        catalogue="moonshotai",
    ),
    Provider(name="moonshot-cn", title="Moonshot (China)", base_url="https://api.moonshot.cn/v1", models=_KIMI_MODELS, protocols=_OPENAI),
    Provider(
        name="zhipu",
        title="Zhipu",
        base_url="https://open.bigmodel.cn/api/paas/v4",
        models=("glm-*",),
        protocols=_OPENAI,
        probe="glm-4.7-flash",
    ),
    Provider(
        name="siliconflow",
        title="SiliconFlow",
        base_url="https://api.siliconflow.cn/v1",
        models=_SILICONFLOW_MODELS,
        protocols=_OPENAI,
        probe="Qwen/Qwen3-8B",
    ),
    Provider(
        name="groq",
        title="Groq",
        base_url="https://api.groq.com/openai/v1",
        models=("llama-*", "groq/*"),
        variable="GROQ_API_KEY",
        catalogue="groq",
    ),
    Provider(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        models=_OPENROUTER_MODELS,
        variable="OPENROUTER_API_KEY",
        catalogue="openrouter",
    ),
    Provider(
        name="azure",
        title="Azure OpenAI",
        base_url="https://RESOURCE.openai.azure.com/openai/v1",
        models=("gpt-*", "o3*", "o4*"),
        protocols=_OPENAI,
        auth="api-key",
    ),
    Provider(name="ollama", title="Ollama", base_url="http://127.0.0.1:11434/v1", models=("*",), auth="none", is_local=True),
    # its own port is 8000, which is this proxy's too
    Provider(name="vllm", title="vLLM", base_url="http://127.0.0.1:8001/v1", models=("*",), is_local=True),
)
