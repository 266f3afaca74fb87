-- +goose Up
ALTER TABLE vda_dn ADD COLUMN agent_version TEXT NOT NULL DEFAULT '';
ALTER TABLE vda_cn ADD COLUMN agent_version TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN agent_version;
ALTER TABLE vda_dn DROP COLUMN agent_version;
