-- +goose Up
ALTER TABLE vda_da ADD COLUMN space_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vda_da ADD COLUMN used_bytes BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_da DROP COLUMN used_bytes;
ALTER TABLE vda_da DROP COLUMN space_bytes;
