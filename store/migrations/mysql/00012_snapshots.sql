-- +goose Up
CREATE TABLE IF NOT EXISTS vda_snap (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    da_id VARCHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    live_name VARCHAR(255),
    state BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    held_bytes BIGINT NOT NULL,
    asked_us BIGINT NOT NULL,
    taken_us BIGINT NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_snap_name UNIQUE (da_id, live_name),
    CONSTRAINT vda_snap_da FOREIGN KEY (da_id) REFERENCES vda_da (id),
    INDEX vda_snap_by_name (name, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- +goose Down
DROP TABLE vda_snap;
