-- +goose Up
CREATE TABLE vda_snap (
    id VARCHAR(32) COLLATE "C" NOT NULL PRIMARY KEY,
    da_id VARCHAR(32) COLLATE "C" NOT NULL,
    name VARCHAR(255) COLLATE "C" NOT NULL,
    live_name VARCHAR(255) COLLATE "C",
    state BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL,
    held_bytes BIGINT NOT NULL,
    asked_us BIGINT NOT NULL,
    taken_us BIGINT NOT NULL,
    h_error BOOLEAN NOT NULL,
    h_msg TEXT NOT NULL,
    h_since_us BIGINT NOT NULL,
    CONSTRAINT vda_snap_name UNIQUE (da_id, live_name),
    CONSTRAINT vda_snap_da FOREIGN KEY (da_id) REFERENCES vda_da (id)
);
CREATE INDEX vda_snap_by_name ON vda_snap (name, id);

-- +goose Down
DROP TABLE vda_snap;
