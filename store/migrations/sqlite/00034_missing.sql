-- +goose Up
ALTER TABLE vda_mirror ADD COLUMN missing BIGINT NOT NULL DEFAULT 0;
UPDATE vda_mirror SET missing = (SELECT d.redundancy FROM vda_da d WHERE d.id = vda_mirror.da_id) -
    (SELECT COUNT(*) FROM vda_vd v WHERE v.da_id = vda_mirror.da_id AND v.mirror_id = vda_mirror.id AND v.deleted = FALSE);
CREATE INDEX vda_mirror_missing ON vda_mirror (missing);
ALTER TABLE vda_da ADD COLUMN thin BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE vda_da ADD COLUMN crowded BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE vda_da SET thin = TRUE WHERE stays_thin = TRUE OR size_bytes > physical_bytes;
UPDATE vda_da SET crowded = TRUE WHERE space_bytes > 0 AND used_bytes / 4 >= space_bytes / 5 - 1;
CREATE INDEX vda_da_crowded ON vda_da (thin, crowded);

-- +goose Down
DROP INDEX vda_da_crowded;
ALTER TABLE vda_da DROP COLUMN crowded;
ALTER TABLE vda_da DROP COLUMN thin;
DROP INDEX vda_mirror_missing;
ALTER TABLE vda_mirror DROP COLUMN missing;
