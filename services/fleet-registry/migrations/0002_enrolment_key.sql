-- Whose key used a token (SHA-256 of the public key, hex): an agent that died before it had kept its certificate may ask
-- for it again, and nobody else.
alter table enrolment_token add column key_fingerprint text;
