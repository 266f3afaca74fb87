-- +goose Up
ALTER TABLE vda_da ADD COLUMN rebuild_mb BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vda_vd ADD COLUMN copy_rate BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_vd DROP COLUMN copy_rate;
ALTER TABLE vda_da DROP COLUMN rebuild_mb;
