-- +goose Up
CREATE TABLE vda_security (
    id VARCHAR(400) COLLATE "C" NOT NULL PRIMARY KEY,
    ca_cert TEXT NOT NULL,
    secured BOOLEAN NOT NULL
);
CREATE TABLE vda_member (
    id VARCHAR(400) COLLATE "C" NOT NULL PRIMARY KEY,
    kind VARCHAR(400) COLLATE "C" NOT NULL,
    name VARCHAR(400) COLLATE "C" NOT NULL,
    expires_us BIGINT NOT NULL,
    revoked_us BIGINT NOT NULL
);
CREATE TABLE vda_token (
    id VARCHAR(400) COLLATE "C" NOT NULL PRIMARY KEY,
    kind VARCHAR(400) COLLATE "C" NOT NULL,
    name VARCHAR(400) COLLATE "C" NOT NULL,
    role VARCHAR(400) COLLATE "C" NOT NULL,
    expires_us BIGINT NOT NULL
);

-- +goose Down
DROP TABLE vda_token;
DROP TABLE vda_member;
DROP TABLE vda_security;
