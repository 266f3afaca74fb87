-- +goose Up
-- What was before counts as said by a user: nothing is asked of arrays that go on today.
ALTER TABLE vda_mirror ADD COLUMN recovered BIGINT NOT NULL DEFAULT 0;
UPDATE vda_mirror SET recovered = gen;

-- +goose Down
ALTER TABLE vda_mirror DROP COLUMN recovered;
