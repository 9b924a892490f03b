import { testAgainstReference } from './run.ts'

testAgainstReference(2, 2)
