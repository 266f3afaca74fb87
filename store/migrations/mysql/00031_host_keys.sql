-- +goose Up
ALTER TABLE vda_exp ADD COLUMN dhchap_keys TEXT NOT NULL DEFAULT ('');
ALTER TABLE vda_cn ADD COLUMN auth BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN auth;
ALTER TABLE vda_exp DROP COLUMN dhchap_keys;
