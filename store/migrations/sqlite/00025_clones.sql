-- +goose Up
ALTER TABLE vda_da ADD COLUMN clone_source TEXT NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE vda_da DROP COLUMN clone_source;
