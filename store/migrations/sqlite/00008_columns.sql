-- +goose Up
-- Every column is a mirror: that of a striped array has one leg, and the id of its vd.
INSERT INTO vda_mirror (id, da_id, grp_idx, idx, size_bytes, gen)
    SELECT id, da_id, grp_idx, idx, size_bytes, 1 FROM vda_vd WHERE mirror_id = '';
UPDATE vda_vd SET mirror_id = id WHERE mirror_id = '';

-- +goose Down
UPDATE vda_vd SET mirror_id = '' WHERE mirror_id = id;
DELETE FROM vda_mirror WHERE id IN (SELECT id FROM vda_vd);
