-- +goose Up
ALTER TABLE vda_security ADD COLUMN hop_secret VARCHAR(400) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_security DROP COLUMN hop_secret;
