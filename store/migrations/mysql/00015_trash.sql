-- +goose Up
ALTER TABLE vda_da ADD COLUMN purge_us BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_da DROP COLUMN purge_us;
