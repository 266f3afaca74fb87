-- +goose Up
CREATE TABLE vda_alert (
    code VARCHAR(64) COLLATE "C" NOT NULL,
    object VARCHAR(32) COLLATE "C" NOT NULL,
    name VARCHAR(255) COLLATE "C" NOT NULL,
    msg TEXT NOT NULL,
    since_us BIGINT NOT NULL,
    PRIMARY KEY (code, object, name)
);

-- +goose Down
DROP TABLE vda_alert;
