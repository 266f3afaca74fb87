-- +goose Up
ALTER TABLE vda_mirror ADD COLUMN scrub VARCHAR(1024) NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE vda_mirror DROP COLUMN scrub;
