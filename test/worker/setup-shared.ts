import './setup.ts'
import { loadModules, lookUpModulesInPlace } from './model/in-place.ts'

await loadModules()
lookUpModulesInPlace()
