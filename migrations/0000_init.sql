CREATE TABLE `api_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text,
	`name` text NOT NULL,
	`role` text NOT NULL,
	`bridge` text,
	`hash` text NOT NULL,
	`created_at` integer NOT NULL,
	`last_used_at` integer,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `api_keys_hash` ON `api_keys` (`hash`);--> statement-breakpoint
CREATE INDEX `api_keys_tenant` ON `api_keys` (`tenant_id`,`id`);--> statement-breakpoint
CREATE INDEX `api_keys_bridge` ON `api_keys` (`bridge`,`tenant_id`) WHERE role = 'bridge';--> statement-breakpoint
CREATE TABLE `device_modules` (
	`device_id` text NOT NULL,
	`module` text NOT NULL,
	`version` text NOT NULL,
	`reported_at` integer NOT NULL,
	`rolled_back` text,
	PRIMARY KEY(`device_id`, `module`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `devices` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`product_id` text NOT NULL,
	`number` text NOT NULL,
	`name` text,
	`access_token` text NOT NULL,
	`password_hash` text,
	`tags` text DEFAULT '[]' NOT NULL,
	`enabled` integer DEFAULT true NOT NULL,
	`topic_family` text,
	`online` integer,
	`last_seen_at` integer,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `devices_access_token` ON `devices` (`access_token`);--> statement-breakpoint
CREATE UNIQUE INDEX `devices_product_number` ON `devices` (`product_id`,`number`);--> statement-breakpoint
CREATE INDEX `devices_tenant` ON `devices` (`tenant_id`,`id`);--> statement-breakpoint
CREATE INDEX `devices_product` ON `devices` (`product_id`,`id`);--> statement-breakpoint
CREATE INDEX `devices_number` ON `devices` (`number`);--> statement-breakpoint
CREATE TABLE `idempotent_answers` (
	`api_key_id` text NOT NULL,
	`idempotency_key` text NOT NULL,
	`request_hash` text NOT NULL,
	`status` integer,
	`body` text,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`api_key_id`, `idempotency_key`)
);
--> statement-breakpoint
CREATE TABLE `outcomes` (
	`device_id` text NOT NULL,
	`task_id` text NOT NULL,
	`tenant_id` text NOT NULL,
	`module` text NOT NULL,
	`from_version` text,
	`target_version` text NOT NULL,
	`status` text NOT NULL,
	`description` text,
	`rolled_back` integer NOT NULL,
	`attempt` integer NOT NULL,
	`finished_at` integer NOT NULL,
	PRIMARY KEY(`device_id`, `task_id`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `packages` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`product_id` text NOT NULL,
	`name` text NOT NULL,
	`description` text,
	`module` text NOT NULL,
	`version` text NOT NULL,
	`kind` text NOT NULL,
	`source_version` text DEFAULT '' NOT NULL,
	`sign_method` text NOT NULL,
	`ext_data` text,
	`state` text NOT NULL,
	`error` text,
	`size` integer,
	`sign` text,
	`filename` text,
	`storage_key` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `packages_version` ON `packages` (`product_id`,`module`,`version`,`kind`,`source_version`);--> statement-breakpoint
CREATE INDEX `packages_tenant` ON `packages` (`tenant_id`,`id`);--> statement-breakpoint
CREATE TABLE `products` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`name` text NOT NULL,
	`description` text,
	`bridge` text DEFAULT 'default' NOT NULL,
	`default_module_param` text,
	`notify_cancel` integer DEFAULT false NOT NULL,
	`frozen_at` integer,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `products_tenant` ON `products` (`tenant_id`,`id`);--> statement-breakpoint
CREATE TABLE `rejections` (
	`device_id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`total` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`items` text NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `tasks` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`product_id` text NOT NULL,
	`package_ids` text NOT NULL,
	`module` text NOT NULL,
	`target_version` text NOT NULL,
	`name` text NOT NULL,
	`description` text,
	`selection` text NOT NULL,
	`policy` text NOT NULL,
	`status` text NOT NULL,
	`paused_reason` text,
	`start_at` integer NOT NULL,
	`end_at` integer,
	`rank` text NOT NULL,
	`counts` text NOT NULL,
	`created_at` integer NOT NULL,
	`finished_at` integer
);
--> statement-breakpoint
CREATE INDEX `tasks_tenant` ON `tasks` (`tenant_id`,`id`);--> statement-breakpoint
CREATE INDEX `tasks_product_status` ON `tasks` (`product_id`,`status`);--> statement-breakpoint
CREATE TABLE `tenants` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `upgrades` (
	`device_id` text NOT NULL,
	`module` text NOT NULL,
	`tenant_id` text NOT NULL,
	`task_id` text NOT NULL,
	`rank` text NOT NULL,
	`active` integer NOT NULL,
	`target_version` text NOT NULL,
	`last_notice_id` integer NOT NULL,
	`succeeded_task_id` text,
	`succeeded_rank` text,
	`doubt_version` text,
	`waiting_task_id` text,
	`waiting_rank` text,
	PRIMARY KEY(`device_id`, `module`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `upload_parts` (
	`upload_id` text NOT NULL,
	`part` integer NOT NULL,
	`etag` text NOT NULL,
	`size` integer NOT NULL,
	PRIMARY KEY(`upload_id`, `part`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `uploads` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`package_id` text NOT NULL,
	`r2_upload_id` text NOT NULL,
	`storage_key` text NOT NULL,
	`filename` text,
	`size` integer NOT NULL,
	`part_size` integer NOT NULL,
	`sha256` text,
	`state` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `uploads_package` ON `uploads` (`package_id`);