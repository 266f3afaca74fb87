-- +goose Up
CREATE TABLE vda_user (
    id TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    changed_us BIGINT NOT NULL
);

-- +goose Down
DROP TABLE vda_user;
