CREATE TABLE `signing_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`product_id` text NOT NULL,
	`name` text NOT NULL,
	`public_key` text NOT NULL,
	`created_at` integer NOT NULL,
	`retired_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `signing_keys_in_force` ON `signing_keys` (`product_id`,`public_key`) WHERE retired_at IS NULL;--> statement-breakpoint
CREATE INDEX `signing_keys_product` ON `signing_keys` (`product_id`,`id`);--> statement-breakpoint
ALTER TABLE `packages` ADD `sha256` text;--> statement-breakpoint
ALTER TABLE `packages` ADD `security_counter` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `packages` ADD `signature` text;--> statement-breakpoint
ALTER TABLE `packages` ADD `signature_key_id` text;--> statement-breakpoint
ALTER TABLE `packages` ADD `signature_verified_at` integer;--> statement-breakpoint
ALTER TABLE `products` ADD `signing_name` text;--> statement-breakpoint
ALTER TABLE `products` ADD `require_signature` integer DEFAULT false NOT NULL;--> statement-breakpoint
-- The SHA-256 of files that have an MD5 only stays unknown.
UPDATE `packages` SET sha256 = sign WHERE sign_method = 'SHA256';
