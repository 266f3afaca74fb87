-- +goose Up
-- Where other controllers connect to a cn; empty where that is its listener.
ALTER TABLE vda_cn ADD COLUMN backend VARCHAR(255) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN backend;
