CREATE TABLE `credential_changes` (
	`access_token` text PRIMARY KEY NOT NULL,
	`seq` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE UNIQUE INDEX `credential_changes_seq` ON `credential_changes` (`seq`);--> statement-breakpoint
-- ON CONFLICT … DO UPDATE, never OR REPLACE: the conflict clause of the statement that fires a trigger goes before those inside.
CREATE TRIGGER `devices_credential_insert` AFTER INSERT ON `devices` BEGIN
	INSERT INTO credential_changes (access_token, seq)
	VALUES (NEW.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes))
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq;
END;--> statement-breakpoint
CREATE TRIGGER `devices_credential_update` AFTER UPDATE OF access_token, password_hash, enabled, number, product_id ON `devices`
WHEN OLD.access_token IS NOT NEW.access_token OR OLD.password_hash IS NOT NEW.password_hash
	OR OLD.enabled IS NOT NEW.enabled OR OLD.number IS NOT NEW.number OR OLD.product_id IS NOT NEW.product_id
BEGIN
	INSERT INTO credential_changes (access_token, seq)
	VALUES (NEW.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes))
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq;
	INSERT INTO credential_changes (access_token, seq)
	SELECT OLD.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes) WHERE OLD.access_token <> NEW.access_token
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq;
END;--> statement-breakpoint
CREATE TRIGGER `devices_credential_delete` AFTER DELETE ON `devices` BEGIN
	INSERT INTO credential_changes (access_token, seq)
	VALUES (OLD.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes))
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq;
END;--> statement-breakpoint
INSERT INTO `credential_changes` (access_token, seq)
SELECT access_token, (SELECT coalesce(max(seq), 0) FROM credential_changes) + row_number() OVER (ORDER BY rowid)
FROM `devices` WHERE true
ON CONFLICT (access_token) DO NOTHING;
