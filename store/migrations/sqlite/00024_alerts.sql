-- +goose Up
CREATE TABLE vda_alert (
    code TEXT NOT NULL,
    object TEXT NOT NULL,
    name TEXT NOT NULL,
    msg TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    PRIMARY KEY (code, object, name)
);

-- +goose Down
DROP TABLE vda_alert;
