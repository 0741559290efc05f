"""A platform that was there first: its three tables, with columns, types, triggers and rows of its own."""

from tests.harness.postgres import Database

TABLES = """
CREATE SCHEMA aigcspace;
COMMENT ON SCHEMA aigcspace IS 'the platform';

CREATE TABLE aigcspace.users (
    id VARCHAR(50) PRIMARY KEY,
    email VARCHAR(200) NOT NULL UNIQUE,
    name VARCHAR(100) NOT NULL,
    role TEXT NOT NULL DEFAULT 'member',
    touched INTEGER NOT NULL DEFAULT 0
);
COMMENT ON TABLE aigcspace.users IS '用户表';
COMMENT ON COLUMN aigcspace.users.name IS '姓名';
CREATE FUNCTION aigcspace.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON aigcspace.users FOR EACH ROW EXECUTE FUNCTION aigcspace.touch();

CREATE TABLE aigcspace.platform_api_key (
    id SERIAL PRIMARY KEY,
    user_id VARCHAR(50) NOT NULL REFERENCES aigcspace.users (id),
    api_key VARCHAR(100) NOT NULL UNIQUE,
    is_active BOOLEAN NOT NULL DEFAULT true
);

CREATE TABLE aigcspace.api_call_log (
    id BIGSERIAL NOT NULL,
    user_id VARCHAR(50) NOT NULL,
    api_key_id INTEGER,
    model_id INTEGER,
    model_name VARCHAR(255) NOT NULL,
    is_local BOOLEAN NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    bill NUMERIC(12, 4) NOT NULL,
    status VARCHAR(20) NOT NULL,
    error_message TEXT,
    request_ip VARCHAR(50),
    created_at TIMESTAMP WITHOUT TIME ZONE DEFAULT now() NOT NULL,
    region VARCHAR(10) NOT NULL DEFAULT 'cn',
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES aigcspace.users (id) ON DELETE CASCADE,
    FOREIGN KEY (api_key_id) REFERENCES aigcspace.platform_api_key (id) ON DELETE SET NULL
);
CREATE INDEX idx_api_call_log_user_id ON aigcspace.api_call_log (user_id);
CREATE INDEX idx_api_call_log_created_at ON aigcspace.api_call_log (created_at);
CREATE INDEX idx_api_call_log_region ON aigcspace.api_call_log (region);
COMMENT ON TABLE aigcspace.api_call_log IS 'API调用日志表';
COMMENT ON COLUMN aigcspace.api_call_log.bill IS '费用';

CREATE TABLE aigcspace.alembic_version (version_num VARCHAR(32) PRIMARY KEY);
CREATE VIEW aigcspace.expensive AS SELECT * FROM aigcspace.api_call_log WHERE bill > 1;
INSERT INTO aigcspace.alembic_version VALUES ('platform-17');
"""

ROWS = """
INSERT INTO aigcspace.users (id, email, name) SELECT 'u' || n, n || '@example.org', 'user ' || n FROM generate_series(1, 50) n;
INSERT INTO aigcspace.platform_api_key (user_id, api_key) SELECT 'u' || n, 'sk-platform-' || n FROM generate_series(1, 50) n;
INSERT INTO aigcspace.api_call_log
    (user_id, api_key_id, model_name, is_local, input_tokens, output_tokens, bill, status, request_ip)
SELECT 'u' || n % 50 + 1, n % 50 + 1, 'gpt-4o', n % 2 = 0, n, 2 * n, n / 1000.0, 'success', '10.0.0.1' FROM generate_series(1, 2000) n;
"""

WRITES = """
INSERT INTO aigcspace.users (id, email, name) VALUES ('late', 'late@example.org', 'late');
INSERT INTO aigcspace.platform_api_key (user_id, api_key) VALUES ('late', 'sk-platform-late');
INSERT INTO aigcspace.api_call_log
    (user_id, api_key_id, model_id, model_name, is_local, input_tokens, output_tokens, bill, status, error_message, request_ip)
SELECT 'late', id, 1, 'gpt-4o', false, 1, 2, 0.5, 'failed', 'no', '::1' FROM aigcspace.platform_api_key WHERE user_id = 'late';
"""
"""What the platform's own programs go on doing: they know no column but theirs."""


def build(database: Database, definition: str = TABLES, rows: str = ROWS) -> None:
    run(database, definition + rows)


def run(database: Database, script: str) -> None:
    """Many statements at once, which asyncpg takes where there are no parameters."""
    database.execute(script)
