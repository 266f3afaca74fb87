-- +goose Up
-- Where other controllers connect to a cn; empty where that is its listener.
ALTER TABLE vda_cn ADD COLUMN backend TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN backend;
