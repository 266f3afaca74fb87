-- +goose Up
CREATE TABLE vda_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us BIGINT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    name TEXT NOT NULL,
    parent TEXT NOT NULL,
    object_id TEXT NOT NULL,
    msg TEXT NOT NULL,
    method TEXT NOT NULL,
    user_name TEXT NOT NULL,
    peer TEXT NOT NULL,
    req_id TEXT NOT NULL,
    code BIGINT NOT NULL,
    took_us BIGINT NOT NULL
);
CREATE INDEX vda_event_at ON vda_event (at_us);
CREATE INDEX vda_event_object ON vda_event (object_id, kind);
CREATE INDEX vda_event_kind ON vda_event (kind);
ALTER TABLE vda_da ADD COLUMN moving_us BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_da DROP COLUMN moving_us;
DROP TABLE vda_event;
