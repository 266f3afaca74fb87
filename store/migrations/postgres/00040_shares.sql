-- +goose Up
-- By how many halvings a monitor has fewer nodes than others, as it is slow; -1: it does not say, as those of before.
ALTER TABLE vda_monitor ADD COLUMN halvings BIGINT NOT NULL DEFAULT -1;

-- +goose Down
ALTER TABLE vda_monitor DROP COLUMN halvings;
