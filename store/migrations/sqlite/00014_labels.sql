-- +goose Up
CREATE TABLE vda_label (
    object_id TEXT NOT NULL,
    label_key TEXT NOT NULL,
    label_value TEXT NOT NULL,
    PRIMARY KEY (object_id, label_key)
);
CREATE INDEX vda_label_value ON vda_label (label_key, label_value);
CREATE TABLE vda_description (
    object_id TEXT NOT NULL PRIMARY KEY,
    description TEXT NOT NULL
);

-- +goose Down
DROP TABLE vda_description;
DROP TABLE vda_label;
