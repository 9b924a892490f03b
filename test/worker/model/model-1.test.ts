import { testAgainstReference } from './run.ts'

testAgainstReference(1, 2)
