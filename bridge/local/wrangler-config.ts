import { dirname, join } from 'node:path'
import { experimental_readRawConfig } from 'wrangler'
import { makePrivateFolder, writePrivateFile } from '../private-files.ts'
import { keepSecrets } from './secrets.ts'
import type { LocalSettings } from './settings.ts'
import { ROOT } from './wrangler.ts'

/**
 * Writes the configuration of this installation: that of `wrangler.toml` with secrets of its own. An open one
 * has no S3 endpoint: whoever knew its keys could write the bucket, and wrangler answers it on loopback only.
 */
export function writeWranglerConfig(settings: LocalSettings): void {
  const { rawConfig } = experimental_readRawConfig({ config: join(ROOT, 'wrangler.toml') })
  const secrets = keepSecrets(settings.secretsFile)
  const credentials = {
    accessKeyId: secrets.R2_ACCESS_KEY_ID,
    secretAccessKey: secrets.R2_SECRET_ACCESS_KEY,
  }
  const config = {
    ...rawConfig,
    main: join(ROOT, rawConfig.main ?? ''),
    vars: { ...rawConfig.vars, ...secrets },
    r2_buckets: rawConfig.r2_buckets?.map((bucket: object) => ({
      ...bucket,
      local_dev: settings.isOpen ? undefined : { experimental_s3_credentials: credentials },
    })),
  }
  makePrivateFolder(dirname(settings.wranglerConfigFile))
  writePrivateFile(settings.wranglerConfigFile, JSON.stringify(config, null, 2))
}
