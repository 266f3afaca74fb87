-- +goose Up
ALTER TABLE vda_cn ADD COLUMN drain INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN drain;
