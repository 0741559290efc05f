// What calls can be filtered by: the parameters of `/logs`.

export const FILTERS = {
  plain: ["user_id", "model_name", "status", "api_key_id", "upstream_id"],
  more: ["request_id", "api", "end_reason", "usage_source", "is_local", "end_user", "request_ip", "model_id", "min_bill"],
};
export const ALL_FILTERS = [...FILTERS.plain, ...FILTERS.more];
export const CHOICES = {
  status: ["success", "failed"],
  is_local: ["true", "false"],
  usage_source: ["provider", "estimated", "none"],
  api: [
    "chat.completions",
    "completions",
    "responses",
    "responses.compact",
    "responses.input_tokens",
    "messages",
    "messages.count_tokens",
    "generateContent",
    "countTokens",
    "embedContent",
    "embeddings",
    "images.generations",
    "images.edits",
    "images.variations",
    "audio.speech",
    "audio.transcriptions",
    "audio.translations",
    "moderations",
    "rerank",
    "rerank.v2",
  ],
  end_reason: [
    "completed",
    "client_gone",
    "refused",
    "interrupted",
    "upstream_error",
    "upstream_broken",
    "upstream_empty",
    "orphaned",
    "cancelled",
    "background_lost",
  ],
};
export const NUMBERS = ["api_key_id", "model_id", "min_bill"];
/** Others than the choices may come. */
export const OPEN = ["api", "end_reason"];
