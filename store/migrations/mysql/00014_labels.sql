-- +goose Up
CREATE TABLE IF NOT EXISTS vda_label (
    object_id VARCHAR(32) NOT NULL,
    label_key VARCHAR(317) NOT NULL,
    label_value VARCHAR(63) NOT NULL,
    PRIMARY KEY (object_id, label_key),
    INDEX vda_label_value (label_key, label_value)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
CREATE TABLE IF NOT EXISTS vda_description (
    object_id VARCHAR(32) NOT NULL PRIMARY KEY,
    description TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- +goose Down
DROP TABLE vda_description;
DROP TABLE vda_label;
