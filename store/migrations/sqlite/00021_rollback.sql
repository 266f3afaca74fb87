-- +goose Up
ALTER TABLE vda_snap ADD COLUMN rollback_state BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_snap DROP COLUMN rollback_state;
