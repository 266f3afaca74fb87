-- +goose Up
ALTER TABLE vda_snap ADD COLUMN together VARCHAR(32) COLLATE "C" NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_snap DROP COLUMN together;
