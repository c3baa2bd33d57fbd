-- Strings stand once, in word; what uses are summed by stands once, in subject, but for the hour and the policy set. find is the start of a hash.
CREATE TABLE IF NOT EXISTS reeve_index_release (release BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS reeve_index_word (id {id}, find BIGINT NOT NULL, word {bytes} NOT NULL);
CREATE INDEX IF NOT EXISTS reeve_index_word_find ON reeve_index_word (find);
CREATE TABLE IF NOT EXISTS reeve_index_subject (
  id {id}, find BIGINT NOT NULL,
  log BIGINT NOT NULL, type BIGINT NOT NULL, tenant BIGINT NOT NULL, unit BIGINT NOT NULL, workload BIGINT NOT NULL, gateway BIGINT NOT NULL,
  credential BIGINT NOT NULL, fingerprint BIGINT NOT NULL, decision BIGINT NOT NULL, reason BIGINT NOT NULL, level BIGINT NOT NULL, proof BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS reeve_index_subject_find ON reeve_index_subject (find);
CREATE INDEX IF NOT EXISTS reeve_index_subject_credential ON reeve_index_subject (credential);
CREATE INDEX IF NOT EXISTS reeve_index_subject_workload ON reeve_index_subject (workload);
CREATE INDEX IF NOT EXISTS reeve_index_subject_gateway ON reeve_index_subject (gateway);
-- Sums of hours and, for windows that are long, of days: length is 3600 or 86400, since their first instant in Unix seconds. A row has the sums of
-- those subjects whose ids divided by 256 are block, as block.go packs them.
CREATE TABLE IF NOT EXISTS reeve_index_sum (
  length BIGINT NOT NULL, since BIGINT NOT NULL, block BIGINT NOT NULL, sums {bytes} NOT NULL, PRIMARY KEY (length, since, block)
);
-- Intents and mints without an outcome, and what they are counted in.
CREATE TABLE IF NOT EXISTS reeve_index_open (
  log BIGINT NOT NULL, seq BIGINT NOT NULL, since BIGINT NOT NULL, subject BIGINT NOT NULL, estate BIGINT NOT NULL, PRIMARY KEY (log, seq)
) {rowless};
-- The rows themselves are JSON; the other columns are what they are found by.
CREATE TABLE IF NOT EXISTS reeve_index_event (
  log BIGINT NOT NULL, seq BIGINT NOT NULL, time BIGINT NOT NULL, type BIGINT NOT NULL, credential BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (log, seq)
) {rowless};
CREATE INDEX IF NOT EXISTS reeve_index_event_time ON reeve_index_event (time);
CREATE TABLE IF NOT EXISTS reeve_index_version (
  log BIGINT NOT NULL, credential BIGINT NOT NULL, workload BIGINT NOT NULL, lease BIGINT NOT NULL, bound BIGINT NOT NULL,
  since BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (log, credential, workload, lease)
) {rowless};
CREATE INDEX IF NOT EXISTS reeve_index_version_bound ON reeve_index_version (bound);
CREATE INDEX IF NOT EXISTS reeve_index_version_credential ON reeve_index_version (credential);
-- What versions were before: as of an instant, one is as here when since < instant <= until.
CREATE TABLE IF NOT EXISTS reeve_index_past (
  log BIGINT NOT NULL, seq BIGINT NOT NULL, credential BIGINT NOT NULL, bound BIGINT NOT NULL, since BIGINT NOT NULL, until BIGINT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (log, seq)
) {rowless};
CREATE INDEX IF NOT EXISTS reeve_index_past_until ON reeve_index_past (until);
-- How far each log is indexed.
CREATE TABLE IF NOT EXISTS reeve_index_log (id TEXT PRIMARY KEY, size BIGINT NOT NULL, body TEXT NOT NULL);
