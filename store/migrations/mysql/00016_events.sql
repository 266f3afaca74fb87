-- +goose Up
CREATE TABLE vda_event (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at_us BIGINT NOT NULL,
    kind VARCHAR(32) NOT NULL,
    object VARCHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    parent VARCHAR(255) NOT NULL,
    object_id VARCHAR(32) NOT NULL,
    msg TEXT NOT NULL,
    method VARCHAR(32) NOT NULL,
    user_name VARCHAR(255) NOT NULL,
    peer VARCHAR(255) NOT NULL,
    req_id VARCHAR(255) NOT NULL,
    code BIGINT NOT NULL,
    took_us BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE INDEX vda_event_at ON vda_event (at_us);
CREATE INDEX vda_event_object ON vda_event (object_id, kind);
CREATE INDEX vda_event_kind ON vda_event (kind);
ALTER TABLE vda_da ADD COLUMN moving_us BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_da DROP COLUMN moving_us;
DROP TABLE vda_event;
