-- +goose Up
-- What a power cut does to writes to a pd; empty while its dn has not said so.
ALTER TABLE vda_pd ADD COLUMN write_cache VARCHAR(16) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_pd DROP COLUMN write_cache;
