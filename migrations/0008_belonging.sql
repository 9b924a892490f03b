CREATE TABLE `sessions` (
	`id_hash` text PRIMARY KEY NOT NULL,
	`key_id` text NOT NULL,
	`ends_at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `sessions_ends_at` ON `sessions` (`ends_at`);--> statement-breakpoint
ALTER TABLE `idempotent_answers` ADD `claimed_at` integer;--> statement-breakpoint
ALTER TABLE `credential_changes` ADD `tenant_id` text;--> statement-breakpoint
ALTER TABLE `credential_changes` ADD `former_tenant_id` text;--> statement-breakpoint
-- The triggers of 0003_credentials, which now also note whose username it is. What is there already is not filled in: the
-- tenant of a username that has a device is that device's, and the bridges read their feeds from the start once more.
DROP TRIGGER `devices_credential_insert`;--> statement-breakpoint
DROP TRIGGER `devices_credential_update`;--> statement-breakpoint
DROP TRIGGER `devices_credential_delete`;--> statement-breakpoint
CREATE TRIGGER `devices_credential_insert` AFTER INSERT ON `devices` BEGIN
	INSERT INTO credential_changes (access_token, seq, tenant_id)
	VALUES (NEW.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes), NEW.tenant_id)
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq, tenant_id = excluded.tenant_id,
		former_tenant_id = iif(tenant_id = excluded.tenant_id, former_tenant_id, tenant_id);
END;--> statement-breakpoint
CREATE TRIGGER `devices_credential_update` AFTER UPDATE OF access_token, password_hash, enabled, number, product_id ON `devices`
WHEN OLD.access_token IS NOT NEW.access_token OR OLD.password_hash IS NOT NEW.password_hash
	OR OLD.enabled IS NOT NEW.enabled OR OLD.number IS NOT NEW.number OR OLD.product_id IS NOT NEW.product_id
BEGIN
	INSERT INTO credential_changes (access_token, seq, tenant_id)
	VALUES (NEW.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes), NEW.tenant_id)
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq, tenant_id = excluded.tenant_id,
		former_tenant_id = iif(tenant_id = excluded.tenant_id, former_tenant_id, tenant_id);
	INSERT INTO credential_changes (access_token, seq, tenant_id)
	SELECT OLD.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes), OLD.tenant_id
	WHERE OLD.access_token <> NEW.access_token
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq, tenant_id = excluded.tenant_id,
		former_tenant_id = iif(tenant_id = excluded.tenant_id, former_tenant_id, tenant_id);
END;--> statement-breakpoint
CREATE TRIGGER `devices_credential_delete` AFTER DELETE ON `devices` BEGIN
	INSERT INTO credential_changes (access_token, seq, tenant_id)
	VALUES (OLD.access_token, (SELECT coalesce(max(seq), 0) + 1 FROM credential_changes), OLD.tenant_id)
	ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq, tenant_id = excluded.tenant_id,
		former_tenant_id = iif(tenant_id = excluded.tenant_id, former_tenant_id, tenant_id);
END;--> statement-breakpoint
CREATE TRIGGER `tenants_delete` AFTER DELETE ON `tenants` BEGIN
	UPDATE api_keys SET revoked_at = unixepoch() * 1000 WHERE tenant_id = OLD.id AND revoked_at IS NULL;
END;
