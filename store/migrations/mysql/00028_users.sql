-- +goose Up
CREATE TABLE vda_user (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    role VARCHAR(32) NOT NULL,
    password TEXT NOT NULL,
    changed_us BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- +goose Down
DROP TABLE vda_user;
