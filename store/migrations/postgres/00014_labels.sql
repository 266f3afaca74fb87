-- +goose Up
CREATE TABLE vda_label (
    object_id VARCHAR(32) COLLATE "C" NOT NULL,
    label_key VARCHAR(317) COLLATE "C" NOT NULL,
    label_value VARCHAR(63) COLLATE "C" NOT NULL,
    PRIMARY KEY (object_id, label_key)
);
CREATE INDEX vda_label_value ON vda_label (label_key, label_value);
CREATE TABLE vda_description (
    object_id VARCHAR(32) COLLATE "C" NOT NULL PRIMARY KEY,
    description TEXT NOT NULL
);

-- +goose Down
DROP TABLE vda_description;
DROP TABLE vda_label;
