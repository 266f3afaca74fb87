-- +goose Up
CREATE TABLE vda_alert (
    code VARCHAR(64) NOT NULL,
    object VARCHAR(32) NOT NULL,
    name VARCHAR(255) NOT NULL,
    msg TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    PRIMARY KEY (code, object, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- +goose Down
DROP TABLE vda_alert;
