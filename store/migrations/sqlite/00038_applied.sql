-- +goose Up
-- The version of a vd or controller that its node has carried out, noted while others hold up the node's; 0: not noted.
ALTER TABLE vda_vd ADD COLUMN applied BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vda_cntlr ADD COLUMN applied BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_vd DROP COLUMN applied;
ALTER TABLE vda_cntlr DROP COLUMN applied;
