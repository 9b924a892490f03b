import { testAgainstReference } from './model/run.ts'

testAgainstReference(2, 2)
