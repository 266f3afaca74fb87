-- +goose Up
-- The snapshot that a writable one is a clone of; empty for one that takes no writes.
ALTER TABLE vda_snap ADD COLUMN clone_of VARCHAR(32) COLLATE "C" NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_snap DROP COLUMN clone_of;
