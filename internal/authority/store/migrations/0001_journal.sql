-- Plain enough for SQLite and PostgreSQL alike: numbers are BIGINT, bytes BYTEA, times milliseconds since 1970 by the database's clock.

-- Who may speak for the estate. The one row is also the lock under which the journal is written.
CREATE TABLE lease (
	one    BIGINT PRIMARY KEY CHECK (one = 1),
	holder TEXT   NOT NULL,
	epoch  BIGINT NOT NULL, -- rises with every holder
	until  BIGINT NOT NULL
);
INSERT INTO lease (one, holder, epoch, until) VALUES (1, '', 0, 0);

-- What was received, published and entered, in order and without gaps while nothing is superseded.
CREATE TABLE journal (
	seq  BIGINT PRIMARY KEY,
	kind TEXT   NOT NULL,
	id   BYTEA  NOT NULL,
	body BYTEA  NOT NULL,
	UNIQUE (kind, id)
);

-- What may be used once, until it could not be used anyway.
CREATE TABLE used (
	id    BYTEA  PRIMARY KEY,
	until BIGINT NOT NULL
);
CREATE INDEX used_until ON used (until);
