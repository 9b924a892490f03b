CREATE TABLE `deleted_tasks` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`deleted_at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `sweeps` (
	`name` text PRIMARY KEY NOT NULL,
	`cursor` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
DROP INDEX `packages_version`;--> statement-breakpoint
CREATE INDEX `packages_product` ON `packages` (`product_id`,`module`);--> statement-breakpoint
CREATE UNIQUE INDEX `packages_version` ON `packages` (`product_id`,`module`,`version`,`kind`,`source_version`) WHERE state <> 'recalled';--> statement-breakpoint
ALTER TABLE `tasks` ADD `object_bytes` integer;--> statement-breakpoint
ALTER TABLE `tasks` ADD `archived_at` integer;