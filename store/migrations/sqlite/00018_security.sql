-- +goose Up
CREATE TABLE vda_security (
    id TEXT NOT NULL PRIMARY KEY,
    ca_cert TEXT NOT NULL,
    secured BOOLEAN NOT NULL
);
CREATE TABLE vda_member (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    expires_us BIGINT NOT NULL,
    revoked_us BIGINT NOT NULL
);
CREATE TABLE vda_token (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    expires_us BIGINT NOT NULL
);

-- +goose Down
DROP TABLE vda_token;
DROP TABLE vda_member;
DROP TABLE vda_security;
