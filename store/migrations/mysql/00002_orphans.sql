-- +goose Up
ALTER TABLE vda_pd ADD COLUMN orphan_clusters BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE vda_pd DROP COLUMN orphan_clusters;
