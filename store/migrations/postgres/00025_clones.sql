-- +goose Up
ALTER TABLE vda_da ADD COLUMN clone_source VARCHAR(2048) NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE vda_da DROP COLUMN clone_source;
