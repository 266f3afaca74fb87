-- +goose Up
ALTER TABLE vda_mirror ADD COLUMN scrub TEXT NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE vda_mirror DROP COLUMN scrub;
