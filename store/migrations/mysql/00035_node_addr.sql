-- +goose Up
-- Empty where the node's name is the address.
ALTER TABLE vda_dn ADD COLUMN addr VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE vda_cn ADD COLUMN addr VARCHAR(255) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE vda_cn DROP COLUMN addr;
ALTER TABLE vda_dn DROP COLUMN addr;
